/** What ISO 4217 gives another exponent than 2. Intl has CLDR's, by which prices are written, and they differ: MGA and HUF have 0 there, IQD too. */
const exponents: ReadonlyMap<string, number> = new Map([
  ...['BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF'].map(currency => [currency, 0] as const),
  ...['BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND'].map(currency => [currency, 3] as const),
  ...['CLF', 'UYW'].map(currency => [currency, 4] as const)
])

/** How many of the minor units' digits stand behind the point: 2 for EUR, 0 for JPY, 3 for KWD (ISO 4217). */
export function exponentOf (currency: string): number {
  return exponents.get(currency) ?? 2
}

/** The same amount in units of another exponent; undefined where it is no whole number of them. */
export function rescaled (amount: bigint, from: number, to: number): bigint | undefined {
  if (to >= from) return amount * 10n ** BigInt(to - from)
  const unit = 10n ** BigInt(from - to)
  return amount % unit === 0n ? amount / unit : undefined
}
