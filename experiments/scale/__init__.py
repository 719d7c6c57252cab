"""Models at the sizes of pods, planned (`mmjax plan`) and not trained here. What was planned: `NAME.json`."""
