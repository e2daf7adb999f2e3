import { Type } from 'typebox'
import { customerPattern } from '../plugins/auth.ts'
import { Problem } from '../plugins/errors.ts'

/** The parameter of the query string that selects a customer. */
export const Customer = Type.String({ pattern: customerPattern.source, maxLength: 255, description: 'Only the orders of this customer. Only staff may name another customer' })

/**
 * The customer whose orders a request may reach; null for everybody's. The order of another customer is a 404, because a 403 would
 * tell that it exists. Asking for another customer's orders by name is a 403, which tells nothing.
 *
 * @param asked the customer that the request names
 */
export function reachOf ({ customer, staff }: { customer: string, staff: boolean }, asked?: string): string | null {
  if (staff) return asked ?? null
  if (asked !== undefined && asked !== customer) {
    throw new Problem('forbidden', 'Only staff may ask for the orders of another customer.', { headers: { 'www-authenticate': 'Bearer error="insufficient_scope", scope="staff"' } })
  }
  return customer
}

/** The same answer for an order that does not exist and for one of another customer. */
export function noSuchOrder (): Problem {
  return new Problem('not-found', 'There is no such order of yours.')
}
