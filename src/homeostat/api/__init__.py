"""The four kinds, the CRDs made from them, and the wire schemas between our own parts."""
