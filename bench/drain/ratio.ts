/** The ratio of two quantities, estimated from pairs of measurements. */
export interface Ratio {
  /** The Hodges–Lehmann estimate: half of the pairwise averages are above, half below. */
  readonly ratio: number
  /** The 95 % interval by Wilcoxon's signed-rank test on the logarithms, which assumes only that they are symmetric. */
  readonly interval: readonly [number, number]
}

export function ratioOf (pairs: ReadonlyArray<readonly [number, number]>): Ratio {
  const logs = pairs.map(([a, b]) => Math.log(a / b))
  const n = logs.length
  const means = logs.flatMap((a, i) => logs.slice(i).map(b => (a + b) / 2)).sort((a, b) => a - b)
  // How many averages lie outside on each side: the quantile of the test's statistic, by its normal approximation.
  const outside = Math.max(0, Math.floor(n * (n + 1) / 4 - 1.96 * Math.sqrt(n * (n + 1) * (2 * n + 1) / 24)))
  const at = (index: number): number => Math.exp(means[index] ?? NaN)
  const middle = (means.length - 1) / 2
  return {
    ratio: Math.sqrt(at(Math.floor(middle)) * at(Math.ceil(middle))),
    interval: [at(outside), at(means.length - 1 - outside)]
  }
}

/** Of sorted values. */
export function quantile (sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN
}
