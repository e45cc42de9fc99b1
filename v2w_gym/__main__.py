"""``python -m v2w_gym`` is ``v2w``."""

from v2w_gym.cli import main

raise SystemExit(main())
