import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A folder as kubelet mounts a ConfigMap or a Secret: its files are links through `..data`, which is swapped as a whole. */
export class MountedFolder {
  readonly path: string
  #writes = 0

  constructor (path: string, values: Record<string, string>) {
    this.path = path
    mkdirSync(path, { recursive: true })
    this.write(values)
  }

  /** Does as Kubernetes' pkg/volume/util/atomic_writer.go: makes a new folder, links it by another name, and renames the link over the old one. */
  write (values: Record<string, string>): void {
    const folder = `..2026_11_27_${++this.#writes}`
    mkdirSync(join(this.path, folder))
    for (const [name, value] of Object.entries(values)) writeFileSync(join(this.path, folder, name), value)
    symlinkSync(folder, join(this.path, '..data_tmp'))
    renameSync(join(this.path, '..data_tmp'), join(this.path, '..data'))
    for (const name of Object.keys(values)) {
      try {
        symlinkSync(join('..data', name), join(this.path, name))
      } catch {}
    }
  }
}
