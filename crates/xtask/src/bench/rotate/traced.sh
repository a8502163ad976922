#!/bin/sh
# Notes the step before it is taken, so that the bench can kill whoever takes it.
echo "$1" >> "$BENCH_TRACE"
sleep 0.3
case $HAVRE_SECRET in
database-url) exec ./rotate.sh "$1" ;;
esac
