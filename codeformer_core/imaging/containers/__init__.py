"""Image files as containers: taken apart into pixels and metadata, and put together again."""
