import { Type } from 'typebox'
import { customerPattern } from '../plugins/auth.ts'
import { Problem } from '../plugins/errors.ts'

/** Whose orders: a parameter of the query string. */
export const Customer = Type.String({ pattern: customerPattern.source, maxLength: 255, description: 'The orders of this customer alone; of another than oneself for staff' })

/**
 * Whose orders a request may reach: null for everybody's. The order of another is a 404, not a 403, which would tell that it
 * exists; to ask for another's orders by name is a 403, which tells nothing.
 *
 * @param asked whose it asks for
 */
export function reachOf ({ customer, staff }: { customer: string, staff: boolean }, asked?: string): string | null {
  if (staff) return asked ?? null
  if (asked !== undefined && asked !== customer) {
    throw new Problem('forbidden', 'Only staff may ask for the orders of another customer.', { headers: { 'www-authenticate': 'Bearer error="insufficient_scope", scope="staff"' } })
  }
  return customer
}

/** The same for what is not there, and for what is another's. */
export function noSuchOrder (): Problem {
  return new Problem('not-found', 'There is no such order of yours.')
}
