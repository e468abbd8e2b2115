"""What breaks: one module a fault, each with available, inject, in_effect and heal."""
