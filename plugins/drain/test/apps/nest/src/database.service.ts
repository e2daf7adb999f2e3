import { Injectable, Logger, OnModuleDestroy } from '@nestjs/common';

// Like the pool of a database: a query takes a while, and fails once the pool is closed.
@Injectable()
export class DatabaseService implements OnModuleDestroy {
  private open = true;

  async query(): Promise<{ rows: number }> {
    await new Promise((resolve) => setTimeout(resolve, 200));
    if (!this.open) throw new Error('the pool is closed');
    return { rows: 1 };
  }

  onModuleDestroy() {
    this.open = false;
    new Logger(DatabaseService.name).log('the pool is closed');
  }
}
