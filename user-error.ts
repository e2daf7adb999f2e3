/**
 * An error that a person caused, or can mend. Its message is complete: what happened, what was not done, what to do next. A program
 * prints it alone. Any other error is a fault of a program, which is found by its stack.
 */
export class UserError extends Error {
  override name = 'UserError'
}

/**
 * What `console.error` gets for an error that ends a program: the message of a UserError, or of Node about the command line; any
 * other error whole.
 */
export function forPeople (error: unknown): unknown {
  const isComplete = error instanceof UserError || (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS_'))
  return isComplete ? error.message : error
}
