"""What the kernel holds, in API words: rules, the objects they came from, and how two states differ."""
