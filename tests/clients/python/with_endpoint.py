"""Run another program, unchanged, after one `aiplatform.init` that names the endpoint.

python with_endpoint.py localhost:8443 PROGRAM ARGUMENTS...
"""

import runpy
import sys

from google.cloud import aiplatform

endpoint, *sys.argv = sys.argv[1:]
aiplatform.init(api_endpoint=endpoint)
runpy.run_path(sys.argv[0], run_name="__main__")
