// An order as a Go service writes one: Gin, pgx, and a transaction of one statement after another.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const customer = "guest"

var (
	errOutOfStock = errors.New("there is not enough of a product, or no such product; nothing was stored")
	errKeyReused  = errors.New("the Idempotency-Key was used for another request")
)

type orderRequest struct {
	Currency string `json:"currency" binding:"required,len=3"`
	Items    []item `json:"items" binding:"required,min=1,max=100,dive"`
}

type item struct {
	Sku       string `json:"sku" binding:"required"`
	Quantity  int32  `json:"quantity" binding:"required,min=1"`
	UnitPrice int64  `json:"unitPrice"`
}

type order struct {
	ID        string    `json:"id"`
	Customer  string    `json:"customer"`
	Status    string    `json:"status"`
	Currency  string    `json:"currency"`
	Items     []item    `json:"items"`
	Total     int64     `json:"total"`
	Reference *string   `json:"reference"`
	Version   int       `json:"version"`
	CreatedAt time.Time `json:"createdAt"`
}

func main() {
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL") + "?pool_max_conns=" + os.Getenv("POOL"))
	if err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.ConnectConfig(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.Use(gin.Recovery())
	router.POST("/orders", func(c *gin.Context) {
		key := c.GetHeader("Idempotency-Key")
		var request orderRequest
		if err := c.ShouldBindJSON(&request); err != nil || key == "" {
			c.JSON(http.StatusBadRequest, gin.H{"message": "The request is not valid. Nothing was stored."})
			return
		}
		placed, err := place(c.Request.Context(), pool, key, request)
		switch {
		case err == nil:
			c.JSON(http.StatusCreated, placed)
		case errors.Is(err, errOutOfStock):
			c.JSON(http.StatusConflict, gin.H{"message": err.Error()})
		case errors.Is(err, errKeyReused):
			c.JSON(http.StatusUnprocessableEntity, gin.H{"message": err.Error()})
		default:
			log.Print(err)
			c.JSON(http.StatusInternalServerError, gin.H{"message": "The order could not be placed."})
		}
	})
	log.Fatal(router.Run("127.0.0.1:" + os.Getenv("PORT")))
}

// place stores the order in one transaction; a key that has made an order already gives that one.
func place(ctx context.Context, pool *pgxpool.Pool, key string, request orderRequest) (*order, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	fingerprint := sha256.Sum256(body)

	tx, err := pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx)

	placed := order{Customer: customer, Status: "placed", Currency: request.Currency, Items: request.Items, Version: 1}
	for i := range placed.Items {
		line := &placed.Items[i]
		err := tx.QueryRow(ctx, `SELECT unit_price FROM products WHERE sku = $1 AND currency = $2`, line.Sku, request.Currency).Scan(&line.UnitPrice)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, errOutOfStock
		}
		if err != nil {
			return nil, err
		}
		placed.Total += int64(line.Quantity) * line.UnitPrice
	}

	err = tx.QueryRow(ctx, `
		INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
		VALUES (uuidv7(), $1, $2, $3, $4, $5, now())
		ON CONFLICT (customer, idempotency_key) DO NOTHING
		RETURNING id::text, created_at`,
		customer, key, fingerprint[:], request.Currency, placed.Total).Scan(&placed.ID, &placed.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return find(ctx, tx, key, fingerprint[:], placed)
	}
	if err != nil {
		return nil, err
	}

	for i, line := range placed.Items {
		tag, err := tx.Exec(ctx, `UPDATE products SET stock = stock - $2 WHERE sku = $1 AND stock >= $2`, line.Sku, line.Quantity)
		if err != nil {
			return nil, err
		}
		if tag.RowsAffected() == 0 {
			return nil, errOutOfStock
		}
		if _, err := tx.Exec(ctx, `INSERT INTO order_items (order_id, position, sku, quantity, unit_price) VALUES ($1, $2, $3, $4, $5)`,
			placed.ID, i+1, line.Sku, line.Quantity, line.UnitPrice); err != nil {
			return nil, err
		}
	}
	if _, err := tx.Exec(ctx, `INSERT INTO outbox (order_id, version, type) VALUES ($1, 1, 'placed')`, placed.ID); err != nil {
		return nil, err
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, err
	}
	return &placed, nil
}

// find gives the order that the key has made.
func find(ctx context.Context, tx pgx.Tx, key string, fingerprint []byte, found order) (*order, error) {
	var stored []byte
	err := tx.QueryRow(ctx, `SELECT id::text, fingerprint, total, created_at FROM orders WHERE customer = $1 AND idempotency_key = $2`, customer, key).
		Scan(&found.ID, &stored, &found.Total, &found.CreatedAt)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(stored, fingerprint) {
		return nil, errKeyReused
	}
	for i := range found.Items {
		err := tx.QueryRow(ctx, `SELECT unit_price FROM order_items WHERE order_id = $1 AND position = $2`, found.ID, i+1).Scan(&found.Items[i].UnitPrice)
		if err != nil {
			return nil, err
		}
	}
	return &found, nil
}
