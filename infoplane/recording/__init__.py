"""Reading the layers of a network as it trains, and measuring them."""
