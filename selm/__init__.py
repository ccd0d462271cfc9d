"""What the four services share: the chassis, the generated stubs, the client and the CLI.

Knows nothing of torch, vector stores or training at import; never imports a service package.
"""

__version__ = "0.1.0"
