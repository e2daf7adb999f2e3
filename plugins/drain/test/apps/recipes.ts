import type { Recipe } from './recipe.ts'
import { FRAMEWORK_RECIPES } from './recipes-frameworks.ts'
import { PLUGIN_RECIPES } from './recipes-plugins.ts'

export type { Recipe } from './recipe.ts'

export const RECIPES: readonly Recipe[] = [...FRAMEWORK_RECIPES, ...PLUGIN_RECIPES]
