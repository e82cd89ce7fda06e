#!/usr/bin/env bash
# Re-encodes videos like tools/convert_videos.py, but needs only bash, ffmpeg and ffprobe: for clusters without the suite.
#
#   tools/convert_videos.sh RECIPE SOURCE DESTINATION            every video under the folder SOURCE
#   tools/convert_videos.sh RECIPE SOURCE DESTINATION 3/8        part 3 of 8
#   sbatch --array=1-64 --wrap "tools/convert_videos.sh training SOURCE DESTINATION \$SLURM_ARRAY_TASK_ID/64"
#   (cd SOURCE && find . -name 'a*.mp4' -print0) | tools/convert_videos.sh RECIPE SOURCE DESTINATION -
#
# RECIPE: training, short288, short256 or short160. Parts split the sorted names under SOURCE; "-" reads null-terminated
# names relative to SOURCE from standard input. JOBS: how many videos to convert at once (the number of cores).
#
# Run the same command again to resume: targets of this recipe that are not older than their source are skipped. Videos
# that fail are listed in DESTINATION/conversion_failures.PART.txt, and the exit status is 1. What ffmpeg says of videos
# that it converted all the same is added to DESTINATION/conversion_damaged.PART.txt.
#
# Every frame that ffmpeg decodes is kept, but evenly spaced: where the source's frame rate varies, the times are lost.
# Whether mirrored and turned videos become upright depends on ffmpeg's release. tools/convert_videos.py does better in
# both, counts lost frames, and converts this script's results again.
set -euo pipefail

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

probe() { # VIDEO: its first video stream, unless that is a cover before a film, and this one's average frames per second
    local stream codec rate found=
    while IFS=, read -r stream codec rate _; do
        [ -n "$found" ] || found="$stream $rate"
        case $codec in mjpeg | png | bmp | gif | webp | tiff) continue ;; esac
        found="$stream $rate"
        break
    done < <(ffprobe -v quiet -protocol_whitelist file -select_streams V \
        -show_entries stream=index,codec_name,avg_frame_rate -of csv=p=0 "file:$1" </dev/null)
    read -r stream rate <<<"${found:-0 0/0}"
    if ! [[ $rate =~ ^[0-9]{1,9}/[1-9][0-9]{0,8}$ ]] || ((rate < 1 || rate > 240)); then rate=25; fi
    echo "$stream $rate"
}

give_up() { # MESSAGE: says why the video of convert_one fails, and lists it
    echo "$1" >&2
    printf '%s\n' "$source" >>"$FAILURES"
}

convert_one() { # RECIPE SOURCE DESTINATION NAME: converts one video unless it is done
    local recipe=$1 source=$2/$4 target=$3/${4%.*}.mp4 even=0 side codec options muxer=+write_colr
    case $recipe in
        short288) side=288 codec=mpeg4 options="b=640k" ;;
        short256) side=256 codec=mpeg4 options="b=512k" ;;
        short160) side=160 codec=mpeg4 options="b=240k" ;;
        training)
            side=256 codec=mpeg4 even=1 muxer=+faststart+write_colr
            options="b=512k g=4 bf=0 mbd=rd trellis=1 cmp=satd subcmp=satd"
            ;;
    esac
    local comment="short side $side, $codec $options, every frame"
    if [ -s "$target" ] && ! [ "$source" -nt "$target" ] && grep -qaF -- "$comment" "$target"; then return; fi
    local width="min(iw\,($side*iw)/min(iw\,ih))" height=-1 encoder=() option
    if [ $even = 1 ]; then width="trunc($width/2)*2" height=-2; fi
    for option in $options; do encoder+=("-${option%%=*}:v" "${option#*=}"); done
    local partial=${target%/*}/.${target##*/}.partial stream rate report complaint failed=0
    mkdir -p "${target%/*}"
    if command -v flock >/dev/null; then # one command at a time writes this file
        if ! { exec 9>>"$partial"; } 2>/dev/null; then
            give_up "$source: cannot write $partial; is the name too long, or the disk full?"
            return
        fi
        if ! flock -n 9; then
            give_up "$source: another command is converting it; start this one again afterwards"
            exec 9>&-
            return
        fi
    fi
    read -r stream rate < <(probe "$source")
    # "-r" before the input numbers the frames, whatever their times, so that none is dropped or repeated.
    if ! report=$(ffmpeg -nostdin -y -v error -progress pipe:1 -threads 1 -protocol_whitelist file \
        -r "$rate" -i "file:$source" -map "0:$stream" \
        -c:v $codec -filter:v "scale=$width:$height:out_range=tv" -pix_fmt yuv420p "${encoder[@]}" -threads 1 \
        -movflags $muxer -map_metadata -1 -metadata "comment=$comment at a constant rate" -f mp4 "file:$partial" 2>&1)
    then failed=1; fi
    complaint=$(grep -vE '^[a-z0-9_]+= *[^ ]*$' <<<"$report") || true
    if [ $failed = 0 ] && [[ $report =~ frame=\ *[1-9] && ! $report =~ (dup|drop)_frames=\ *[1-9] ]]; then
        [ -z "$complaint" ] || printf '%s: %s\n' "$source" "$complaint" >>"$DAMAGED"
        mv -f -- "$partial" "$target"
    else
        rm -f -- "$partial"
        give_up "$source cannot be converted: ${complaint:-ffmpeg lost or repeated frames}"
    fi
}

if [ "${1:-}" = --names ]; then # how xargs starts this script below
    recipe=$2 source=$3 destination=$4
    shift 4
    for name; do convert_one "$recipe" "$source" "$destination" "$name"; done
    exit
fi

[ $# -eq 3 ] || [ $# -eq 4 ] || usage
[[ $1 =~ ^(training|short(288|256|160))$ ]] || usage
part=${4:-1/1}
[[ $part =~ ^([1-9][0-9]*/[1-9][0-9]*|-)$ ]] || usage
[ -d "$2" ] || { echo "error: there is no folder $2" >&2; exit 2; }
for program in ffmpeg ffprobe; do
    command -v $program >/dev/null || { echo "error: $program not found; tools/convert_videos.py does without" >&2; exit 2; }
done
mkdir -p -- "$3"
source=$(cd -- "$2" && pwd) destination=$(cd -- "$3" && pwd)
case $source/ in "$destination"/*) inside=1 ;; esac
case $destination/ in "$source"/*) inside=1 ;; esac
[ -z "${inside:-}" ] || { echo "error: $2 and $3 must not contain each other" >&2; exit 2; }

# The suffixes, and what is skipped, are those of tools/convert_videos.py (datasets/video/lists.py, find_files.py).
suffixes=(
    264 265 3g2 3gp amv asf avc avi divx dv dvr-ms evo f4v flv gif gxf h261 h263 h264 h265 hevc ismv ivf m1v m2p
    m2t m2ts m2v m4v mj2 mjpeg mjpg mk3d mkv mod mov mp4 mp4v mpe mpeg mpg mts mxf nut obu ogm ogv qt rm rmvb
    tod tp trp ts vob vro webm wm wmv wtv xvid y4m
)
system_names=(
    __macosx @eadir '#recycle' @recycle lost+found '$recycle.bin' recycler
    'system volume information' thumbs.db ehthumbs.db desktop.ini __pycache__
)
kinds=() # not -regex: find's regular expressions stop at a line break in a name
for suffix in "${suffixes[@]}"; do kinds+=(${kinds[@]:+-o} -iname "*.$suffix"); done
system=(-name '.?*')
for name in "${system_names[@]}"; do system+=(-o -iname "$name"); done

leads_up='real=$(readlink -f -- "$0") && here=$(cd -- "${0%/*}" && pwd -P) && [[ $here/ == "${real%/}"/* ]]'
list() { # ARGUMENTS of find: prints the files below SOURCE, through links to folders, except into a folder they are in
    (cd "$source" && LC_ALL=C find -L . \( "${system[@]}" \) -prune -o -xtype l -type d -exec bash -c "$leads_up" {} \; -prune \
        -o \( -type f -o -type l \) "$@") 2> >(grep -vE 'loop detected|Too many levels' >&2) || true # it skips such loops
}
if [ "$part" = - ]; then
    mapfile -d '' -t chosen
else
    mapfile -d '' -t names < <(list \( "${kinds[@]}" \) -printf '%P\0' | LC_ALL=C sort -z)
    others=$(list -not \( "${kinds[@]}" \) -printf . | wc -c)
    [ "$others" = 0 ] || echo "files skipped, because videos have other suffixes: $others" >&2
    chosen=()
    for ((i = ${part%/*} - 1; i < ${#names[@]}; i += ${part#*/})); do chosen+=("${names[i]}"); done
fi
[ ${#chosen[@]} -gt 0 ] || { echo "no videos in this part of $2"; exit 0; }

tag=${part//\//-of-}
export FAILURES=$destination/conversion_failures.${tag/#-/names}.txt
export DAMAGED=$destination/conversion_damaged.${tag/#-/names}.txt
rm -f -- "$FAILURES"
printf '%s\0' "${chosen[@]}" |
    xargs -0 -n 8 -P "${JOBS:-$(nproc)}" bash "$0" --names "$1" "$source" "$destination"
if [ -s "$DAMAGED" ]; then echo "damaged videos: $DAMAGED" >&2; fi
if [ -s "$FAILURES" ]; then
    echo "$(wc -l <"$FAILURES") of ${#chosen[@]} videos could not be converted: $FAILURES" >&2
    exit 1
fi
echo "${#chosen[@]} videos converted"
