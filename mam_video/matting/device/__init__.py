"""The stages after the model on tensors of its device, one file for each of OpenCV's in `mam_video/matting`.

Nothing here reads a tensor's numbers, so that no stage waits for the device. What OpenCV's files limit to a part that
they find in the numbers is limited here to a part that is known beforehand: the crop.
"""
