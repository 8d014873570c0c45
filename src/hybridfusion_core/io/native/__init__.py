"""Files as microscopes write them (ND2, CZI, LIF, OIB, OIF, OIR, VSI): one small module maps each library to scenes."""
