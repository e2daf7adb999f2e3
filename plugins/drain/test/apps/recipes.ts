import type { Recipe } from './recipe.ts'
import { frameworkRecipes } from './recipes-frameworks.ts'
import { pluginRecipes } from './recipes-plugins.ts'

export type { Recipe } from './recipe.ts'

export const recipes: readonly Recipe[] = [...frameworkRecipes, ...pluginRecipes]
