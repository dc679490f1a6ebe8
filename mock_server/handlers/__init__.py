"""What each route does, one module per area. Handlers run under the tenant's lock and never touch the network."""
