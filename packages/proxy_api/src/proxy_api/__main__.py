"""``python -m proxy_api`` is ``llm-proxy``."""

from proxy_api._cli import main

if __name__ == "__main__":
    main()
