"""Ways of making batches from plans, all with the same bits: `reference` defines them."""
