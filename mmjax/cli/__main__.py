"""`python -m mmjax.cli VERB …`."""

import sys

from mmjax.cli import main

sys.exit(main())
