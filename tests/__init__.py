"""Tests; whoever imports one knows the recipes that they use by name."""

from tests import recipes

recipes.register()
