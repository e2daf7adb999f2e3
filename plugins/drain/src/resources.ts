/**
 * What keeps the event loop alive, by Node's names of it: a timer that nobody cleared, a socket that nobody closed.
 *
 * @param ownTimers those of the stop itself
 */
export function activeResources (ownTimers: number): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const type of process.getActiveResourcesInfo()) counts[type] = (counts[type] ?? 0) + 1
  const others = (counts.Timeout ?? 0) - ownTimers
  if (others > 0) counts.Timeout = others
  else delete counts.Timeout
  return counts
}
