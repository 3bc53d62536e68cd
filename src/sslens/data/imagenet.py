"""The colours of ImageNet: the mean and the standard deviation of each channel, in [0, 1]."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
#: the largest mean or deviation by which values from 0 to 1 are brought to others, and the smallest
#: deviation
MOST, LEAST = 1e3, 1e-6
