"""What stands for an agent of Ray where nobody asks for one: a process that does nothing, and ends with the raylet.

A raylet ends if one of its agents does, so it has to have them. Run by its path, without what Python imports by itself.
"""

import os
import time

LOOK_S = 0.5
RAYLET = "RAY_RAYLET_PID"  # ray 2.60.0: it tells its agents; whoever is not its child has lost it already

if __name__ == "__main__":
    while os.getppid() == int(os.environ[RAYLET]):
        time.sleep(LOOK_S)
