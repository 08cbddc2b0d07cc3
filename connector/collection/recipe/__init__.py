"""Recipes: one validated configuration each, some of them by name."""

from connector.collection.recipe.named import RECIPES, get_recipe
from connector.collection.recipe.recipe import Recipe, load_recipe

__all__ = ["RECIPES", "Recipe", "get_recipe", "load_recipe"]
