"""The decorator of every component: the project's image holds all that it needs, nothing is installed at run time."""

from functools import partial

from kfp import dsl

IMAGE = "ndpnet"  # in its place each task gets `cluster.image`, see pipelines/kubernetes.py

component = partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
