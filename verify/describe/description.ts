/** The contents of a description; ../description.schema.json explains each part. */
export interface Description {
  readonly name?: string
  readonly start: Program & { readonly ready: string }
  /** In seconds. */
  readonly limits?: { readonly start?: number, readonly stop?: number, readonly answer?: number, readonly rest?: number }
  readonly postgres?: boolean | { readonly binaries?: string, readonly settings?: Readonly<Record<string, Scalar>> }
  readonly prepare?: ReadonlyArray<{ readonly sql: string } | { readonly sqlFile: string } | Program>
  readonly catalogue?: RequestTemplate
  readonly products?: ReadonlyArray<{
    readonly sku: string
    readonly name?: string
    readonly unitPrice: number
    readonly currency: string
    readonly stock?: number
  }>
  readonly money?: 'minor' | 'major'
  readonly headers?: Readonly<Record<string, Scalar>>
  readonly jwt?: { readonly secret: string, readonly claims?: Readonly<Record<string, unknown>> }
  readonly requests: { readonly place: RequestTemplate } & Partial<Record<RequestName, RequestTemplate>>
  readonly order: OrderFields & { readonly at?: string }
  readonly itemsPerOrder?: number
  readonly list?: { readonly orders?: string, readonly id?: string, readonly next?: string }
  readonly stream?: { readonly orderId: string, readonly version: string, readonly status: string }
  readonly consumer?: { readonly at?: string, readonly orderId: string, readonly version: string, readonly status: string }
  readonly features?: ReadonlyArray<'etag' | 'if-match' | 'location' | 'item-order' | 'own-orders' | 'own-keys'>
  readonly replayed?: { readonly header: string }
  readonly states?: Readonly<Record<string, string | readonly string[]>>
  readonly transitions?: Readonly<Record<string, readonly string[]>>
  readonly refusals?: Readonly<Record<string, Refusal | readonly Refusal[]>>
  readonly stored: StoredWhere & {
    readonly at?: { readonly orders?: string, readonly products?: string, readonly events?: string, readonly next?: string }
    readonly order?: Partial<OrderFields> & { readonly customer?: string, readonly key?: string }
    readonly product?: { readonly sku?: string, readonly available?: string }
    readonly event?: { readonly orderId?: string, readonly version?: string, readonly status?: string, readonly delivered?: string }
  }
}

export type Scalar = string | number | boolean

export type RequestName = 'place' | 'read' | 'list' | 'pay' | 'cancel' | 'ship' | 'deliver' | 'stream'

export interface Program {
  readonly command: ReadonlyArray<string | number>
  readonly cwd?: string | undefined
  readonly env?: Readonly<Record<string, Scalar>> | undefined
}

/** "METHOD /path", or its parts. */
export type RequestTemplate = string | RequestParts

export interface RequestParts {
  readonly method?: Method
  readonly path: string
  readonly query?: Readonly<Record<string, Scalar>>
  readonly headers?: Readonly<Record<string, Scalar>>
  readonly body?: unknown
}

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** JSON pointers. */
export interface OrderFields {
  readonly id: string
  readonly status?: string
  readonly version?: string
  readonly currency?: string
  readonly total?: string
  readonly reference?: string
  readonly items?: ItemFields
}

export interface ItemFields {
  readonly at?: string
  readonly sku?: string
  readonly quantity?: string
  readonly unitPrice?: string
}

/** A status, or a status with values in the body, by JSON pointers. */
export type Refusal = number | { readonly status: number, readonly where?: Readonly<Record<string, unknown>> }

/** One or several. */
export interface StoredWhere {
  readonly sql?: { readonly orders: string, readonly products?: string, readonly events?: string }
  readonly http?: RequestTemplate
  readonly command?: Program['command']
  readonly cwd?: string
  readonly env?: Program['env']
}
