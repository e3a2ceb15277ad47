"""The forecast of a campaign: made from the ladder, registered before training, followed live, settled at the end."""
