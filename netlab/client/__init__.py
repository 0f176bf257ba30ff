"""How components talk to the API server: requests, informers, work queues, leader election, events."""
