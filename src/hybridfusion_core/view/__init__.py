"""From counts to pictures: montages and thumbnails."""
