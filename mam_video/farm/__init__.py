"""One shot on many machines: its steps, the file that describes them, and the engines that run them."""
