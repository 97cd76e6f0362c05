// Reads every table and view of a database with clickhouse-go over HTTP, as Grafana's data source does,
// and writes what it found as JSON. The test beside it starts the server and judges the output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"reflect"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

var methods = map[string]clickhouse.CompressionMethod{
	"none": clickhouse.CompressionNone,
	"gzip": clickhouse.CompressionGZIP,
	"lz4":  clickhouse.CompressionLZ4,
	"zstd": clickhouse.CompressionZSTD,
}

type table struct {
	Rows int            `json:"rows"`
	Last map[string]any `json:"last"`
}

func connect(addr, user, password, method string) (driver.Conn, error) {
	return clickhouse.Open(&clickhouse.Options{
		Addr:        []string{addr},
		Protocol:    clickhouse.HTTP,
		Auth:        clickhouse.Auth{Database: "penstock", Username: user, Password: password},
		Compression: &clickhouse.Compression{Method: methods[method], Level: 3},
		Settings:    clickhouse.Settings{"max_block_size": 3},
	})
}

// read scans all rows of a query into values of the types that the driver names.
func read(ctx context.Context, conn driver.Conn, query string) (table, error) {
	found := table{Last: map[string]any{}}
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return found, err
	}
	defer rows.Close()
	types := rows.ColumnTypes()
	for rows.Next() {
		values := make([]any, len(types))
		for i, one := range types {
			values[i] = reflect.New(one.ScanType()).Interface()
		}
		if err := rows.Scan(values...); err != nil {
			return found, err
		}
		found.Rows++
		for i, one := range types {
			found.Last[one.Name()] = fmt.Sprint(reflect.ValueOf(values[i]).Elem().Interface())
		}
	}
	return found, rows.Err()
}

func readAll(ctx context.Context, conn driver.Conn) (map[string]table, error) {
	names, err := conn.Query(ctx, "SELECT name FROM system.tables WHERE database = 'penstock'")
	if err != nil {
		return nil, err
	}
	defer names.Close()
	found := map[string]table{}
	for names.Next() {
		var name string
		if err := names.Scan(&name); err != nil {
			return nil, err
		}
		one, err := read(ctx, conn, "SELECT * FROM penstock."+name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found[name] = one
	}
	return found, names.Err()
}

func insert(ctx context.Context, conn driver.Conn) error {
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO penstock.go_rows (id, name, tags)")
	if err != nil {
		return err
	}
	for id := range 1000 {
		if err := batch.Append(uint64(id), fmt.Sprint("name ", id%7), []string{"a", "b"}); err != nil {
			return err
		}
	}
	return batch.Send()
}

func run(command string, conn driver.Conn) (any, error) {
	ctx := context.Background()
	switch command {
	case "tables":
		return readAll(ctx, conn)
	case "insert":
		return "ok", insert(ctx, conn)
	case "query":
		return read(ctx, conn, os.Args[6])
	}
	return nil, errors.New("tables, insert or query")
}

func main() {
	if len(os.Args) < 6 {
		log.Fatal("usage: COMMAND ADDRESS USER PASSWORD COMPRESSION [QUERY]")
	}
	conn, err := connect(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	found, err := run(os.Args[1], conn)
	var refused *clickhouse.Exception
	if errors.As(err, &refused) {
		found = map[string]any{"code": refused.Code, "message": refused.Message}
	} else if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}
