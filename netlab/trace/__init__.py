"""Where a packet went and why: predicted from the rules, observed from the kernel's own events, explained."""
