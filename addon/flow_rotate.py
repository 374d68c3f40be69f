"""The script that mitmproxy loads: `mitmdump -s addon/flow_rotate.py`.

Everything is in the package `flowrotate` beside this file. mitmproxy runs this script anew
whenever it changes on disk; the package, and with it every pool's state, stays as it is.
"""

from flowrotate.addon import FlowRotate

addons = [FlowRotate()]
