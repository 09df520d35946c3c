"""How opaque is each pixel? From a mask to the alpha and colour that are written."""
