import { Controller, Get, Post } from '@nestjs/common';
import { AppService } from './app.service.js';
import { DatabaseService } from './database.service.js';

@Controller()
export class AppController {
  constructor(
    private readonly appService: AppService,
    private readonly database: DatabaseService,
  ) {}

  @Get()
  getHello(): string {
    return this.appService.getHello();
  }

  @Post('orders')
  placeOrder(): Promise<{ rows: number }> {
    return this.database.query();
  }
}
