# %% [markdown]
# # From a pixel to a network
#
# What a convolution layer does to an image, with `imgconv` from Python. In a notebook, images,
# kernels and sheets display themselves.

# %%
import numpy as np

import imgconv

photo = imgconv.read("sample:photo:240")
photo

# %% [markdown]
# ## A kernel is laid on the image
#
# At every pixel, the numbers of the kernel are multiplied by the pixels under them and added up:
# g(x, y) = Σ f(x + m, y + n) · w(m, n). The result of this kernel is positive where the image gets
# brighter to the right, and negative where it gets darker.

# %%
imgconv.kernel("sobel-x")

# %%
imgconv.apply(photo, "sobel-x")

# %% [markdown]
# Deep learning calls this convolution; strictly speaking it is cross-correlation. True convolution
# rotates the kernel by 180° first. For this kernel that changes the sign:

# %%
ramp = np.arange(12.0).reshape(3, 4)
correlated = imgconv.apply(ramp, "sobel-x", padding="valid").pixels[..., 0]
convolved = imgconv.apply(ramp, "sobel-x", padding="valid", flip=True).pixels[..., 0]
correlated.tolist(), convolved.tolist()

# %% [markdown]
# ## A bank of kernels makes one map each
#
# Gabor filters respond to stripes of one direction, as many filters in a network's first layer do.

# %%
imgconv.kernel("gabor-bank")

# %%
bank = imgconv.maps(photo, "gabor-bank", gray=True, scale="symmetric", dtype="uint8")
imgconv.sheet(bank, tile=180, columns=4)

# %% [markdown]
# ## A layer: convolution, activation, pooling
#
# A layer has many kernels at once: weights (C_out, C_in, kH, kW). ReLU replaces negative numbers by
# zero, and a max pool keeps the largest number of every window. All arguments are those of
# `torch.nn.Conv2d` and `MaxPool2d`.

# %%
x = photo.pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
weights = np.repeat(imgconv.kernel("kirsch").effective_weights(), x.shape[1], axis=1)
maps = imgconv.conv2d(x, weights, padding=1, activation="relu")
pooled = imgconv.max_pool2d(maps, 4)
x.shape, maps.shape, pooled.shape

# %%
imgconv.sheet(
    pooled, tile=120, columns=4, colormap="magma", title="eight directions, after ReLU and max:4"
)

# %% [markdown]
# ## A network is a sequence of layers
#
# LeNet-5 reads digits. Its first layer has six kernels that it has learned.

# %%
lenet = imgconv.network("lenet5")
features = lenet.features("sample:digit", ["c1", "c3"])
imgconv.sheet(features["c1"], tile=112, title="what the first layer sees in a digit")

# %%
imgconv.sheet(features["c3"], tile=100, title="and the second, after a pool")

# %%
[(answer.label, round(answer.probability, 3)) for answer in lenet.predict("sample:digit")[:3]]
