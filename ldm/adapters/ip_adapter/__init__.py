"""IP-Adapter: pictures as prompts. arXiv:2308.06721."""

from pkgutil import extend_path

from ldm.lazy import lazy_exports

__path__ = extend_path(__path__, __name__)
__all__ = ["IPAdapter", "new_ip_adapter", "read_ip_adapter", "write_ip_adapter"]
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "IPAdapter": "ldm.adapters.ip_adapter.adapter",
        "new_ip_adapter": "ldm.adapters.ip_adapter.adapter",
        "read_ip_adapter": "ldm.adapters.ip_adapter.files",
        "write_ip_adapter": "ldm.adapters.ip_adapter.files",
    },
)
