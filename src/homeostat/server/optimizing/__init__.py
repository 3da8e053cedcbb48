"""`homeostat optimize`: a cheaper model, made once, compared with the original, refused when it differs."""
