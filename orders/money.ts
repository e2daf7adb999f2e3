/** The currencies whose exponent in ISO 4217 is not 2. Intl has CLDR's exponents, for display, and they differ: MGA, HUF and IQD have 0 there. */
const exponents: ReadonlyMap<string, number> = new Map([
  ...['BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF'].map(currency => [currency, 0] as const),
  ...['BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND'].map(currency => [currency, 3] as const),
  ...['CLF', 'UYW'].map(currency => [currency, 4] as const)
])

/** The number of decimal digits in minor units: 2 for EUR, 0 for JPY, 3 for KWD (ISO 4217). */
export function exponentOf (currency: string): number {
  return exponents.get(currency) ?? 2
}

/** The same amount in units of another exponent; undefined if it is no whole number of them. */
export function rescaled (amount: bigint, from: number, to: number): bigint | undefined {
  if (to >= from) return amount * 10n ** BigInt(to - from)
  const unit = 10n ** BigInt(from - to)
  return amount % unit === 0n ? amount / unit : undefined
}
