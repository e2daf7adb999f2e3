/** The part of a package-lock.json that is judged. */
export interface Lock { packages: Record<string, Locked> }

interface Locked {
  version?: string
  integrity?: string
  resolved?: string
  license?: string
  link?: boolean
  inBundle?: boolean
  hasInstallScript?: boolean
  name?: string
  dependencies?: Record<string, string>
  devDependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
}

export interface KnownBad {
  name: string
  /** `*`, or comparators: a space means "and", `||` means "or": `<1.2.3`, `>=1.0.0 <1.2.3`, `=1.2.3`. */
  versions: string
  why: string
}

export interface Allowed {
  licences: string[]
  /** Packages with another licence or none, and why that is fine. */
  licencesOf: Record<string, string>
  /** Direct dependencies that may have several versions, and why. */
  versionsOf: Record<string, string>
}

export interface Rules {
  knownBad: readonly KnownBad[]
  allowed: Allowed
  /** Whether a package may run a script when it is installed. Each that has one must be listed; undefined: not checked. */
  scripts?: Readonly<Record<string, boolean>> | undefined
  /** Whether several versions of a direct dependency are a fault. */
  duplicates: boolean
}

interface Installed extends Locked { path: string, name: string, version: string }

/** The faults of what a lockfile installs. It works offline. */
export function faultsOf (lock: Lock, { knownBad, allowed, scripts, duplicates }: Rules): string[] {
  const installed = Object.entries(lock.packages).flatMap(([path, locked]): Installed[] => {
    const at = path.lastIndexOf('node_modules/')
    return at === -1 || locked.link === true ? [] : [{ ...locked, path, name: locked.name ?? path.slice(at + 'node_modules/'.length), version: locked.version ?? '' }]
  })
  const named = ({ name, version }: Installed): string => `${name} ${version}`
  return [
    ...installed.filter(({ integrity, inBundle, resolved = '' }) => inBundle !== true && !resolved.startsWith('file:') && !/^sha512-/.test(integrity ?? '')).map(found => `${named(found)} has no SHA-512 in the lockfile: npm would install whatever the registry sends`),
    ...installed.filter(({ name, license }) => !(name in allowed.licencesOf) && !isAllowed(license ?? '', allowed.licences)).map(found => `${named(found)} has ${found.license === undefined ? 'no licence' : `the licence ${found.license}`}, which is not allowed`),
    ...installed.flatMap(found => knownBad.filter(({ name, versions }) => name === found.name && isIn(found.version, versions)).map(({ why }) => `${named(found)} is known to be bad. ${why}`)),
    ...scripts === undefined ? [] : installed.filter(({ name, hasInstallScript }) => hasInstallScript === true && !(name in scripts)).map(found => `${named(found)} runs a script when it is installed, and allowScripts in package.json does not list it`),
    ...!duplicates ? [] : duplicatesIn(lock, installed).filter(([name]) => !(name in allowed.versionsOf)).map(([name, versions]) => `${name}, a direct dependency, is installed in ${versions.length} versions: ${versions.join(', ')}`)
  ]
}

function duplicatesIn ({ packages }: Lock, installed: Installed[]): Array<[name: string, versions: string[]]> {
  const own = Object.entries(packages).filter(([path]) => !path.includes('node_modules/')).map(([, locked]) => locked)
  const direct = new Set(own.flatMap(({ dependencies, devDependencies, optionalDependencies }) =>
    Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies })))
  return [...direct].flatMap(name => {
    const versions = [...new Set(installed.filter(found => found.name === name).map(({ version }) => version))]
    return versions.length > 1 ? [[name, versions] as [string, string[]]] : []
  })
}

/** An SPDX expression without nesting; packages use no others. */
function isAllowed (licence: string, licences: readonly string[]): boolean {
  return licence.replaceAll(/[()]/g, '').split(/ or /i).some(choice => choice.split(/ and /i).every(name => licences.includes(name.trim())))
}

function isIn (version: string, ranges: string): boolean {
  return ranges === '*' || ranges.split('||').some(range => range.trim().split(/\s+/).every(comparator => {
    const [, operator = '', bound = ''] = /^(<|>=|=)(\d+\.\d+\.\d+)$/.exec(comparator) ?? []
    if (operator === '') throw new Error(`The comparator ${comparator} of a known bad version cannot be read.`)
    const order = compare(version, bound)
    return operator === '<' ? order < 0 : operator === '=' ? order === 0 : order >= 0
  }))
}

/** A prerelease counts as its release. */
function compare (a: string, b: string): number {
  const [left, right] = [a, b].map(version => version.replace(/[-+].*$/, '').split('.').map(Number))
  for (let part = 0; part < 3; part++) {
    const difference = (left?.[part] ?? 0) - (right?.[part] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
