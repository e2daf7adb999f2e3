// Orders on net/http and database/sql: a service that does not depend on verify. verify.yaml, beside it, describes it.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	_ "github.com/lib/pq"
)

type line struct {
	SKU string `json:"sku"`
	Qty int64  `json:"qty"`
}

type order struct {
	ID    int64  `json:"id"`
	State string `json:"state"`
	Rev   int64  `json:"rev"`
	Cents int64  `json:"cents"`
	Lines []line `json:"lines"`
}

// The answer. After an error the transaction is rolled back.
type outcome struct {
	status int
	order  *order
	err    string
}

var (
	db       *sql.DB
	broken   = os.Getenv("BROKEN")
	stopping atomic.Bool
)

func main() {
	var err error
	if db, err = sql.Open("postgres", os.Getenv("DATABASE_URL")+"?sslmode=disable&connect_timeout=5"); err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		if stopping.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/orders", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			place(w, r)
		} else {
			list(w, r)
		}
	})
	http.HandleFunc("/orders/", one)

	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stopping.Load() {
			w.Header().Set("connection", "close")
		}
		http.DefaultServeMux.ServeHTTP(w, r)
	})}
	stopped := make(chan struct{})
	go func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		<-signals
		if broken == "early" {
			os.Exit(0)
		}
		stopping.Store(true)
		// Shutdown closes a connection that it has just seen idle, although a request may have arrived since, and does not wait
		// for that request: verify found an order stored and its client cut. So the service first closes connections one by one,
		// each with its next answer, and leaves none idle that is in use.
		time.Sleep(time.Second)
		// Waits for the requests that have begun.
		if err := server.Shutdown(context.Background()); err != nil {
			log.Print(err)
		}
		close(stopped)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-stopped
	db.Close()
}

func place(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Lines []line `json:"lines"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		answer(w, 400, map[string]string{"error": "bad request"})
		return
	}
	customer, key := r.Header.Get("x-customer"), r.Header.Get("idempotency-key")
	text, _ := json.Marshal(asked.Lines)
	var id int64
	if err := db.QueryRow(`select nextval('orders_id_seq')`).Scan(&id); err != nil {
		answer(w, 500, map[string]string{"error": "unknown"})
		return
	}
	answerWith(w, func(tx *sql.Tx) (outcome, error) {
		o := order{State: "new", Rev: 1, Lines: asked.Lines}
		// The second request with a key waits here for the first.
		err := tx.QueryRow(`insert into orders (id, customer, key, lines, cents) values ($1, $2, $3, $4, 0)
			on conflict (customer, key) do nothing returning id`, id, customer, key, string(text)).Scan(&o.ID)
		if errors.Is(err, sql.ErrNoRows) {
			return again(tx, customer, key, string(text))
		}
		if err != nil {
			return outcome{}, err
		}
		// Sorted, or two orders would deadlock.
		for _, l := range inOrder(asked.Lines) {
			var price int64
			err := tx.QueryRow(`update products set stock = stock - $2 where sku = $1 and stock >= $2 returning price`, l.SKU, l.Qty).Scan(&price)
			if errors.Is(err, sql.ErrNoRows) {
				return outcome{status: 409, err: "out of stock"}, nil
			}
			if err != nil {
				return outcome{}, err
			}
			o.Cents += price * l.Qty
		}
		_, err = tx.Exec(`update orders set cents = $2 where id = $1`, o.ID, o.Cents)
		return outcome{status: 201, order: &o}, err
	})
}

// The order of this key as in its first answer, whatever happened to it since.
func again(tx *sql.Tx, customer, key, text string) (outcome, error) {
	o := order{State: "new", Rev: 1}
	var stored string
	if err := tx.QueryRow(`select id, cents, lines from orders where customer = $1 and key = $2`, customer, key).Scan(&o.ID, &o.Cents, &stored); err != nil {
		return outcome{}, err
	}
	if stored != text {
		return outcome{status: 422, err: "key reused"}, nil
	}
	return outcome{status: 200, order: &o}, json.Unmarshal([]byte(stored), &o.Lines)
}

// GET /orders/7, POST /orders/7/pay, POST /orders/7/void
func one(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	id, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		answer(w, 404, map[string]string{"error": "not found"})
		return
	}
	customer := r.Header.Get("x-customer")
	if r.Method == http.MethodGet {
		o, err := find(db.QueryRow(`select id, state, rev, cents, lines from orders where id = $1 and customer = $2`, id, customer))
		if errors.Is(err, sql.ErrNoRows) {
			answer(w, 404, map[string]string{"error": "not found"})
		} else if err != nil {
			answer(w, 500, map[string]string{"error": "unknown"})
		} else {
			answer(w, 200, o)
		}
		return
	}
	to := map[string]string{"pay": "paid", "void": "void"}[parts[3]]
	answerWith(w, func(tx *sql.Tx) (outcome, error) {
		o, err := find(tx.QueryRow(`select id, state, rev, cents, lines from orders where id = $1 and customer = $2 for update`, id, customer))
		if errors.Is(err, sql.ErrNoRows) {
			return outcome{status: 404, err: "not found"}, nil
		}
		if err != nil {
			return outcome{}, err
		}
		if o.State == to {
			return outcome{status: 200, order: o}, nil
		}
		if o.State == "void" {
			return outcome{status: 409, err: "not allowed"}, nil
		}
		if to == "void" {
			for _, l := range inOrder(o.Lines) {
				if _, err := tx.Exec(`update products set stock = stock + $2 where sku = $1`, l.SKU, l.Qty); err != nil {
					return outcome{}, err
				}
			}
		}
		o.State = to
		err = tx.QueryRow(`update orders set state = $2, rev = rev + 1 where id = $1 returning rev`, id, to).Scan(&o.Rev)
		return outcome{status: 200, order: o}, err
	})
}

func list(w http.ResponseWriter, r *http.Request) {
	before := r.URL.Query().Get("before")
	if before == "" {
		before = "9223372036854775807"
	}
	rows, err := db.Query(`select id, state, rev, cents, lines from orders where customer = $1 and id < $2 order by id desc limit 20`, r.Header.Get("x-customer"), before)
	if err != nil {
		answer(w, 500, map[string]string{"error": "unknown"})
		return
	}
	defer rows.Close()
	page := []*order{}
	for rows.Next() {
		o, err := find(rows)
		if err != nil {
			answer(w, 500, map[string]string{"error": "unknown"})
			return
		}
		page = append(page, o)
	}
	var next *int64
	if len(page) == 20 {
		next = &page[19].ID
	}
	answer(w, 200, map[string]any{"orders": page, "before": next})
}

// Does it, commits, and then answers.
func answerWith(w http.ResponseWriter, work func(*sql.Tx) (outcome, error)) {
	// The fault that verify must find: the client has its answer, and the order is stored a moment later, if ever.
	early := broken == "early"
	done, err := transaction(work, !early)
	switch {
	case err != nil:
		// A failed request may be stored or not: only a retry with the same key shows that.
		answer(w, 500, map[string]string{"error": "unknown"})
	case done.err != "":
		answer(w, done.status, map[string]string{"error": done.err})
	default:
		answer(w, done.status, done.order)
	}
	if early {
		go func() {
			time.Sleep(50 * time.Millisecond)
			transaction(work, true)
		}()
	}
}

func transaction(work func(*sql.Tx) (outcome, error), commit bool) (outcome, error) {
	tx, err := db.Begin()
	if err != nil {
		return outcome{}, err
	}
	// Does nothing after a commit.
	defer tx.Rollback()
	done, err := work(tx)
	if err != nil || done.err != "" || !commit {
		return done, err
	}
	return done, tx.Commit()
}

func find(row interface{ Scan(...any) error }) (*order, error) {
	var o order
	var lines string
	if err := row.Scan(&o.ID, &o.State, &o.Rev, &o.Cents, &lines); err != nil {
		return nil, err
	}
	return &o, json.Unmarshal([]byte(lines), &o.Lines)
}

func inOrder(lines []line) []line {
	sorted := append([]line{}, lines...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].SKU < sorted[j].SKU })
	return sorted
}

func answer(w http.ResponseWriter, status int, content any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(content)
}
