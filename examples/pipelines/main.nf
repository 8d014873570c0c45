// Fuses every plate in plates/. Exit status 3 (some fields failed) is no reason to stop the others.
params.plates = "plates/*.ome.zarr"
params.options = ""

process FUSE {
    cpus 4
    errorStrategy { task.exitStatus == 3 ? 'ignore' : 'terminate' }
    publishDir "fused", mode: 'move'

    input:
    path plate

    output:
    path "fused_*"

    script:
    """
    hybridfusion batch ${plate} fused_${plate} --workers ${task.cpus} ${params.options}
    hybridfusion verify fused_${plate}
    """
}

workflow {
    FUSE(Channel.fromPath(params.plates, type: 'dir'))
}
