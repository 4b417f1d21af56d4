"""placeholder"""
import json
from functools import lru_cache
from importlib import resources
@lru_cache
def _t(): return json.loads(resources.files("backprop.handlers").joinpath("imagenet.json").read_text())
def class_names(): return _t()["names"]
