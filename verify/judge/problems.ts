/**
 * The refusals that blame the request. Any other refusal means a problem of the service, even if it promises that nothing was
 * stored.
 */
export const answers: ReadonlySet<string> = new Set([
  'out-of-stock', 'unknown-product', 'idempotency-key-reused', 'not-found', 'transition-not-allowed', 'version-mismatch', 'invalid-request', 'forbidden', 'precondition-required', 'payment-declined', 'payment-under-way', 'not-refundable'
])
