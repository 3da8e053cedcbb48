"""Messages of the gRPC services, generated from the .proto files beside by `python deploy/protos.py`.

They live in a pool of their own: other packages bring files and messages of the same names into the default one.
"""

from typing import Final

from google.protobuf.descriptor_pool import DescriptorPool

POOL: Final = DescriptorPool()
