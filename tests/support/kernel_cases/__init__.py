"""The cases that every kernel is tested with; each case knows its references."""

from support.kernel_cases.common import Place, dtypes, precisions
from support.kernel_cases.conv import BlockCase, ConvCase
from support.kernel_cases.shapes import Case, all_cases, few_sms_cases, vgg_cases, vgg_layers
from support.kernel_cases.simple import LinearCase, SimpleCase

__all__ = [
    "BlockCase",
    "Case",
    "ConvCase",
    "LinearCase",
    "Place",
    "SimpleCase",
    "all_cases",
    "dtypes",
    "few_sms_cases",
    "precisions",
    "vgg_cases",
    "vgg_layers",
]
