"""What the exporters that write source code share: safe names, programs, repeated blocks, layout."""
