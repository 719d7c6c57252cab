"""Models at the sizes of pods, each planned (`mmjax plan`), none trained here: NOT RUN. Results beside them, `NAME.json`."""
