/**
 * The refusals that answer the question: something was wrong with what was asked. Any other tells of the service's own
 * trouble, also where it promises that nothing was stored.
 */
export const answers: ReadonlySet<string> = new Set([
  'out-of-stock', 'unknown-product', 'idempotency-key-reused', 'not-found', 'transition-not-allowed', 'version-mismatch', 'invalid-request', 'forbidden', 'precondition-required', 'payment-declined', 'payment-under-way', 'not-refundable'
])
